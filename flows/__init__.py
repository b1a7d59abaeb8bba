"""What happens, in order: one Prefect flow a phase, joined by `post_train`."""
