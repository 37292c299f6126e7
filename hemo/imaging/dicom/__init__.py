"""One DICOM file to the images of its frames: header, pixel data, stored image."""
