"""``posewatch bench gpu``: serving, training and perception on one GPU, in minutes, without internet."""
