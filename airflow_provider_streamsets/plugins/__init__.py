"""Pages in Airflow's user interface (Airflow 3.1.1): a tab on task instances, and a list of all runs."""
