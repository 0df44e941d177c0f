"""The commands of `unskew`, by what they are about. Only these reach into the other folders, and only when run."""
