-- Run once, when the volume is empty; Prefect's own database is made by the image from POSTGRES_DB.
CREATE DATABASE mlflow;
