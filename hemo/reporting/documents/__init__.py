"""Documents on one trial: a model card, and a study sheet that walks reporting guidelines item by item."""
