"""Quality of animated pictures: any folder of photographs and drawings, measured by an independent judge."""
