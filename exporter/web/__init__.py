"""The web application: routes, content negotiation and pages."""
