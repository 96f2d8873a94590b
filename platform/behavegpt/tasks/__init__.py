"""What a trained model is for: tasks on a dataset's val or test split; and metrics that judge every system alike."""
