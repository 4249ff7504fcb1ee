// npm's oidc-provider as a company's OpenID Connect provider. Its settings are the first line of standard input; every
// further line changes something while it runs and is answered with one line of JSON.

import { createServer } from "node:http";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";

import Provider from "oidc-provider";

const cookieKey = randomBytes(24).toString("hex");
let settings = { userinfoOnly: false };
let keys = [];
let provider;
let callback;
let made = 0;

function newKey(kind) {
  const { privateKey } = kind === "EC"
    ? generateKeyPairSync("ec", { namedCurve: "P-256" })
    : generateKeyPairSync("rsa", { modulusLength: 2048 });
  made += 1;
  const alg = kind === "EC" ? "ES256" : "RS256";
  return { ...privateKey.export({ format: "jwk" }), kid: `${kind.toLowerCase()}-${made}`, use: "sig", alg };
}

const html = (title, body) =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>${title}</title>
<main><h1>${title}</h1>${body}</main></html>`;

// A fresh one after every change: configuration and keys are fixed when a provider is made. What it remembers of
// people is kept by its adapter, which all of them share.
function make() {
  provider = new Provider(settings.url, {
    clients: settings.clients.map((client) =>
      settings.methods ? { ...client, token_endpoint_auth_method: settings.methods[0] } : client),
    jwks: { keys },
    pkce: { required: () => true },
    ...(settings.methods ? { clientAuthMethods: settings.methods } : {}),
    conformIdTokenClaims: settings.userinfoOnly,
    cookies: {
      keys: [cookieKey],
      names: {
        session: "interop_oidc_session",
        interaction: "interop_oidc_interaction",
        resume: "interop_oidc_resume",
      },
    },
    claims: {
      openid: ["sub", "acr", "amr"],
      profile: ["name", "preferred_username"],
      email: ["email"],
      groups: ["groups"],
    },
    acrValues: ["silver", "gold"],
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource(ctx, form) {
          ctx.body = html("Sign out?", `${form}<button form="op.logoutForm" name="logout" value="yes">Yes, sign me out</button>`);
        },
        postLogoutSuccessSource(ctx) {
          ctx.body = html("Signed out at the provider", "");
        },
      },
    },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    async findAccount(_, login) {
      const person = settings.people[login];
      return person && { accountId: login, claims: async () => ({ sub: login, ...person }) };
    },
    async loadExistingGrant(ctx) {
      const grant = new ctx.oidc.provider.Grant({
        clientId: ctx.oidc.client.clientId,
        accountId: ctx.oidc.session.accountId,
      });
      grant.addOIDCScope("openid profile email groups");
      await grant.save();
      return grant;
    },
    async renderError(ctx, out) {
      ctx.type = "html";
      ctx.body = html("The provider refused", `<p>${out.error}: ${out.error_description}</p>`);
    },
    // The library keeps providers from calling into private networks; here everybody lives on loopback.
    fetch(url, { dispatcher, ...options }) {
      return fetch(url, options);
    },
    ttl: { Interaction: 600, Session: 3600, Grant: 3600, IdToken: 600, AccessToken: 600 },
  });
  provider.on("backchannel.error", (_, error) => console.error("back-channel logout:", error.message));
  callback = provider.callback();
}

async function interact(request, response) {
  const { uid } = await provider.interactionDetails(request, response);
  if (request.method === "POST") {
    const form = new URLSearchParams(await text(request));
    if (form.has("cancel")) {
      return provider.interactionFinished(request, response, { error: "access_denied" });
    }
    if (settings.people[form.get("username")] && form.get("password") === settings.password) {
      const strong = form.has("strong");
      return provider.interactionFinished(request, response, {
        login: {
          accountId: form.get("username"),
          acr: strong ? "gold" : "silver",
          amr: strong ? ["pwd", "otp"] : ["pwd"],
        },
      });
    }
  }
  response.setHeader("Content-Type", "text/html; charset=utf-8");
  response.end(html("Sign in", `<form method="post" action="/interaction/${uid}">
<p><label>Username <input name="username"></label></p>
<p><label>Password <input name="password" type="password"></label></p>
<p><label><input name="strong" type="checkbox"> With a second factor</label></p>
<button>Login</button> <button name="cancel" value="1">Cancel</button></form>`));
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const change = JSON.parse(line);
  const first = keys.length === 0;
  if (first || change.rotate) {
    const fresh = [newKey("RSA"), newKey("EC")];
    // "dropping": the old keys are gone. "announcing": the new ones are shown, the old ones go on signing.
    keys = change.rotate === "announcing" ? [...keys, ...fresh]
      : change.rotate === "dropping" ? fresh
      : [...fresh, ...keys];
  }
  if (change.finish) keys = keys.slice(-2);
  delete change.rotate;
  delete change.finish;
  settings = { ...settings, ...change };
  make();
  const answer = () => console.log(JSON.stringify({ kids: keys.map((key) => key.kid) }));
  if (!first) return answer();
  createServer((request, response) => {
    const done = request.url.startsWith("/interaction/") ? interact(request, response) : callback(request, response);
    Promise.resolve(done).catch((error) => {
      console.error(error);
      response.statusCode = 500;
      response.end(html("The provider failed", ""));
    });
  }).listen(settings.port, "127.0.0.1", answer);
});
