"""One module per thing that executes artefacts; heavy packages are imported when it runs, never before."""
