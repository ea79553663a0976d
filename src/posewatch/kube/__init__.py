"""What posewatch does on a cluster: applying objects, rolling out a model in steps, its history, training jobs."""
