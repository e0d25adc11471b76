"""Problems that ours and baselines solve in turns: one call of one operation at the sizes of the published network."""
