"""From a training set's parts to augmented batches on the device."""
