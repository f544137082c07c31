// What does the HTTP API answer? Swagger UI, over what /openapi.json says.

SwaggerUIBundle({ url: "/openapi.json", dom_id: "#reference", deepLinking: true, validatorUrl: null });
