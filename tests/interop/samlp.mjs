// Auth0's SAML identity provider (npm's samlp) as a company's: it encrypts with AES-GCM, which SimpleSAMLphp 1.19 does
// not. Settings come as lines of JSON on standard input; each is answered with one line.

import { createServer } from "node:http";
import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";

import samlp from "samlp";

const sessions = new Map();
const cookie = "interop_samlp";
let settings = { options: {} };

const html = (title, body) =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>${title}</title>
<main><h1>${title}</h1>${body}</main></html>`;

// What the library calls people by; the attributes go out as they are.
function Profile(person) {
  return {
    getClaims: () => Object.fromEntries(Object.entries(person).filter(([, values]) => values.length > 0)),
    getNameIdentifier: () => ({ nameIdentifier: `id-of-${person.uid[0]}` }),
  };
}
Profile.prototype.metadata = [];

// The library is written for Express: the few parts of it that it uses.
function likeExpress(request, response) {
  const url = new URL(request.url, settings.url);
  request.originalUrl = request.url;
  request.query = Object.fromEntries(url.searchParams);
  request.protocol = "http";
  response.set = (name, value) => response.setHeader(name, `${value}; charset=utf-8`);
  response.send = (first, second) => {
    const status = typeof first === "number" ? first : 200;
    response.statusCode = status;
    response.end(String((typeof first === "number" ? second : first) ?? ""));
  };
  return url;
}

function asksFor(request, response) {
  response.setHeader("Content-Type", "text/html; charset=utf-8");
  response.end(html("Sign in", `<form method="post" action="">
<p><label>Username <input name="username"></label></p>
<p><label>Password <input name="password" type="password"></label></p>
<button>Login</button></form>`));
}

async function handle(request, response) {
  const url = likeExpress(request, response);
  const fail = (error) => {
    console.error(error);
    response.statusCode = 400;
    response.end(html("The provider refused", ""));
  };
  if (url.pathname === "/metadata") {
    return samlp.metadata({
      issuer: `${settings.url}/metadata`,
      cert: settings.certificate,
      profileMapper: Profile,
      redirectEndpointPath: "/sso",
      postEndpointPath: "/sso",
      logoutEndpointPaths: {},
    })(request, response);
  }
  if (url.pathname !== "/sso") {
    response.statusCode = 404;
    return response.end();
  }
  let login = sessions.get(new RegExp(`${cookie}=(\\w+)`).exec(request.headers.cookie ?? "")?.[1]);
  if (request.method === "POST") {
    const form = new URLSearchParams(await text(request));
    if (settings.people[form.get("username")] && form.get("password") === settings.password) {
      login = form.get("username");
      const id = randomBytes(16).toString("hex");
      sessions.set(id, login);
      response.setHeader("Set-Cookie", `${cookie}=${id}; Path=/; HttpOnly; SameSite=Lax`);
    }
    request.method = "GET";
  }
  if (!login) return asksFor(request, response);
  return samlp.auth({
    issuer: `${settings.url}/metadata`,
    cert: settings.certificate,
    key: settings.key,
    // Of the service provider's metadata, as its administrator copied it.
    signingCert: settings.signing,
    getPostURL: (audience, dom, req, done) => done(null, settings.acs),
    destination: settings.acs,
    recipient: settings.acs,
    getUserFromRequest: () => settings.people[login],
    profileMapper: Profile,
    nameIdentifierFormat: "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
    signResponse: true,
    sessionIndex: randomBytes(16).toString("hex"),
    authnContextClassRef: "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport",
    ...settings.options,
  })(request, response, fail);
}

let listening = false;
createInterface({ input: process.stdin }).on("line", (line) => {
  settings = { ...settings, ...JSON.parse(line) };
  const answer = () => console.log("{}");
  if (listening) return answer();
  listening = true;
  createServer((request, response) => {
    handle(request, response).catch?.((error) => console.error(error));
  }).listen(settings.port, "127.0.0.1", answer);
});
