"""DICOM files: elements, checked header, pixel data, images of the frames."""
