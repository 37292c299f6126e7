"""A synthetic head-CT corpus: which files exist (`plan`), what they show (`section` to `rendering`), their bytes (`dicom_file`)."""
