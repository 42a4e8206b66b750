"""What our DAGs are made of: one package, for in a shared Airflow every DAG's folder is on the same path."""
