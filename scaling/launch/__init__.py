"""How the stages of a study are put to work: a launcher is `launch(setting, stages, seconds)`."""
