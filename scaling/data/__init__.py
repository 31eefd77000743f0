"""Problems, vocabularies and packed arrays: prepared once, then read as a function of the step."""
