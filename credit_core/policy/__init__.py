"""Pure policy: values in, values out. No clock, no SQL, no I/O; what the laboratory compiles is what runs live."""
