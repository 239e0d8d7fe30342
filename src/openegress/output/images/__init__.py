"""Records a picture every few seconds."""
