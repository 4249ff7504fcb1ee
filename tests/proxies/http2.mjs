// Requests over HTTP/2, one after the other, to a host without a port, as browsers say it. Standard input: {origin, host, ca, requests: [{headers, body}]}.

import { connect } from "node:http2";
import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";

const { origin, host, ca, requests } = JSON.parse(await text(process.stdin));
const session = connect(origin, { ca: readFileSync(ca), ALPNProtocols: ["h2"] });
session.on("error", (problem) => {
  console.error(String(problem));
  process.exit(1);
});

const ask = ({ headers, body }) =>
  new Promise((resolve, reject) => {
    const stream = session.request({ ":authority": host, ...headers }, { endStream: body === undefined });
    let status = 0;
    stream.on("response", (answer) => {
      status = answer[":status"];
    });
    stream.on("error", reject);
    text(stream).then((said) => resolve({ status, body: said }), reject);
    if (body !== undefined) stream.end(body);
  });

const answers = [];
for (const request of requests) answers.push(await ask(request));
console.log(JSON.stringify(answers));
session.close();
