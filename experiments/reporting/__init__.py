"""What the experiments tell: tables, figures, the index and the page of claims."""
