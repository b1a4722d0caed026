"""The models that ours are measured against, each tested against its formula or package."""
