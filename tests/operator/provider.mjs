// An OpenID provider for the tests: npm's oidc-provider, and under /test/ what a test needs and no provider offers.
// Its one argument is JSON: host, port, and for TLS the files cert and key. It prints a line when it listens.
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import * as jose from 'jose';
import Provider from 'oidc-provider';

const { host, port, cert, key } = JSON.parse(process.argv.at(-1));
const issuer = `${cert ? 'https' : 'http'}://${host}:${port}`;
const algorithms = ['RS256', 'PS256', 'ES256', 'EdDSA'];

// Who asks for tokens: one client for each kind of person.
const groups = { operator: ['staff', 'relay-operators'], alone: 'relay-operators', visitor: ['staff'], stranger: undefined };
const client = (client_id) => ({
  client_id,
  client_secret: 'secret',
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
});

let keys, provider, generation = 0, instead = {};
const requests = {};

// New keys, and none of the old ones.
async function rotate() {
  generation += 1;
  keys = {};
  for (const alg of algorithms) {
    const pair = await jose.generateKeyPair(alg, { extractable: true });
    keys[alg] = { ...await jose.exportJWK(pair.privateKey), alg, use: 'sig', kid: `${alg}-${generation}-${process.pid}` };
  }
  provider = new Provider(issuer, {
    jwks: { keys: Object.values(keys) },
    clients: Object.keys(groups).map(client),
    scopes: ['relay:read', 'relay:operate'],
    enabledJWA: { idTokenSigningAlgValues: algorithms },
    extraTokenClaims: (_, token) => ({ groups: groups[token.clientId] }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        // urn:AUDIENCE:ALG
        getResourceServerInfo(_, resource) {
          const [, audience, alg] = resource.split(':');
          return {
            scope: 'relay:read relay:operate',
            audience,
            accessTokenFormat: 'jwt',
            accessTokenTTL: 300,
            jwt: { sign: { alg } },
          };
        },
      },
    },
  });
}

// A token like another one, but for some of its header and claims, signed by somebody.
async function forge({ token, header = {}, claims = {}, by = 'provider' }) {
  const read = (part) => JSON.parse(Buffer.from(part, 'base64url'));
  const write = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const [head, body] = token.split('.').slice(0, 2).map(read);
  const protectedHeader = { ...head, ...header };
  const payload = { ...body, ...claims };
  // As null, a member is left out.
  for (const part of [protectedHeader, payload]) {
    for (const name of Object.keys(part)) if (part[name] === null) delete part[name];
  }
  const { alg } = protectedHeader;
  if (by === 'nobody') return `${write(protectedHeader)}.${write(payload)}.`;
  let secret;
  if (by === 'public key') {
    const { kty, n, e } = keys.RS256;
    secret = Buffer.from(await jose.exportSPKI(await jose.importJWK({ kty, n, e }, 'RS256', { extractable: true })));
  } else if (by === 'stranger') {
    secret = (await jose.generateKeyPair(alg)).privateKey;
  } else {
    secret = await jose.importJWK(keys[head.alg], alg);
  }
  const signer = new jose.CompactSign(Buffer.from(JSON.stringify(payload)));
  return signer.setProtectedHeader(protectedHeader).sign(secret, { crit: { 'urn:example:must': true } });
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString() || '{}');
}

const calls = {
  '/test/rotate': async () => { await rotate(); return ''; },
  '/test/forge': forge,
  // Answer a path with something else; with nothing said, as always.
  '/test/instead': async ({ path, ...answer }) => { instead[path] = Object.keys(answer).length ? answer : undefined; return ''; },
  '/test/requests': async ({ path }) => String(requests[path] ?? 0),
};

async function serve(request, response) {
  const call = calls[request.url];
  if (call) {
    try {
      response.end(await call(await body(request)));
    } catch (error) {
      response.writeHead(500).end(error.stack);
    }
    return;
  }
  requests[request.url] = (requests[request.url] ?? 0) + 1;
  const other = instead[request.url];
  if (!other) {
    provider.callback()(request, response);
  } else if (!other.silent) {
    response.writeHead(other.status ?? 200, other.headers ?? {});
    response.end(other.spaces ? ' '.repeat(other.spaces) : other.text);
  }
}

await rotate();
const server = cert
  ? https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, serve)
  : http.createServer(serve);
server.listen(port, host, () => console.log(issuer));
