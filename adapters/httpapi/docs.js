"use strict";
// Lists the operations of openapi.json. Text is only ever set as text.
const node = (tag, text, cls) => {
  const n = document.createElement(tag);
  if (text !== undefined) n.textContent = text;
  if (cls) n.className = cls;
  return n;
};
const nameOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.type === "array") return nameOf(schema.items) + "[]";
  return [].concat(schema.type || "any").filter((t) => t !== "null").join(" or ");
};
const rows = (api, op) => {
  const table = node("table");
  const row = (name, type, where, doc) => {
    const tr = table.insertRow();
    tr.insertCell().append(node("code", name));
    for (const text of [type, where, doc || ""]) tr.insertCell().textContent = text;
  };
  for (const p of op.parameters || []) row(p.name, nameOf(p.schema), p.in, p.description || (p.schema && p.schema.description));
  const body = op.requestBody && op.requestBody.content["application/json"];
  let schema = body && body.schema;
  if (schema && schema.$ref) schema = api.components.schemas[nameOf(schema)];
  for (const [name, s] of Object.entries((schema && schema.properties) || {}))
    row(name, nameOf(s), (schema.required || []).includes(name) ? "body, required" : "body", s.description);
  return table;
};
fetch("openapi.json").then((r) => r.json()).then((api) => {
  const main = document.getElementById("operations");
  main.replaceChildren();
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, op] of Object.entries(methods)) {
      const tag = (op.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push([method.toUpperCase(), path, op]);
    }
  for (const [tag, ops] of [...groups].sort()) {
    main.append(node("h2", tag));
    for (const [method, path, op] of ops) {
      const details = node("details");
      const summary = node("summary");
      summary.append(node("span", method, "m"), node("span", path + "  "), node("span", op.summary || "", "s"));
      details.append(summary, rows(api, op));
      main.append(details);
    }
  }
}).catch((err) => { document.getElementById("operations").textContent = "openapi.json cannot be read: " + err; });
