"""How each phase does its work: one package a phase, and the capabilities that phases share."""
