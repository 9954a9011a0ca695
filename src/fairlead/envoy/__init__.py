"""IR to Envoy messages as bytes, and Envoy's object names; one module per resource type.

Pure: values in, values out. Knows nothing of API kinds and never reads tables.
"""
