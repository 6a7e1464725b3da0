"""Training, fine-tuning and evaluation; one folder per dataset."""
