// Shows the API reference. Swagger UI has a dark theme, but does not follow the browser's setting by itself.
const dark = matchMedia('(prefers-color-scheme: dark)');
function applyTheme() {
  document.documentElement.classList.toggle('dark-mode', dark.matches);
}
dark.addEventListener('change', applyTheme);
applyTheme();

SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#reference',
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // By default, Swagger UI sends the document to a validator of its makers.
  validatorUrl: null,
  defaultModelsExpandDepth: 0,
});
