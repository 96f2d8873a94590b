"""What a pretrained model is worth elsewhere: in another domain, against training there from scratch."""
