"""Data sets: pictures, the factors that made them, and a default DAG over those factors."""
