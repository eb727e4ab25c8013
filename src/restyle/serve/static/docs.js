// The routes, their fields and answers, from the OpenAPI document.

const description = await (await fetch("/openapi.json")).json();
const routes = document.getElementById("routes");
document.getElementById("example").textContent =
  `curl -F content=@photo.jpg -F style_id=wave -F strength=0.8 -o painted.jpg ${location.origin}/v1/images`;

function make(kind, text, ...children) {
  const element = document.createElement(kind);
  element.textContent = text;
  element.append(...children);
  return element;
}

function range(schema) {
  const kinds = [schema, ...(schema.anyOf || [])].filter((one) => one.type !== "null");
  const words = kinds.flatMap((one) => [
    one.enum?.join(", "), one.const,
    one.minimum != null ? `${one.minimum} to ${one.maximum}` : one.type === "array" ? "repeatable" : null,
  ]);
  return words.filter(Boolean).join("; ");
}

for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    routes.append(make("h2", "", make("code", `${method.toUpperCase()} ${path}`)), make("p", route.description || ""));
    const form = route.requestBody?.content["multipart/form-data"]?.schema;
    const fields = form && (form.properties || description.components.schemas[form.$ref?.split("/").pop()]?.properties);
    if (fields) {
      const rows = Object.entries(fields).map(([name, schema]) =>
        make("tr", "", make("th", "", make("code", name)), make("td", [schema.description, range(schema)].filter(Boolean).join(" — "))));
      routes.append(make("table", "", ...rows));
    }
    const answers = Object.entries(route.responses).map(([status, answer]) => `${status} ${answer.description}`);
    const line = make("p", `Answers: ${answers.join(" · ")}`);
    line.className = "quiet";
    routes.append(line);
  }
}
