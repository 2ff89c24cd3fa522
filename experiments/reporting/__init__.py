"""What the experiments show: tables, figures, the index and the page of claims."""
