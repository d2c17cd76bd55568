// npm's jose on the other side: verifies and opens what it is given, and signs and seals of its own.
import * as jose from 'jose';
import { readFileSync } from 'node:fs';

const task = JSON.parse(readFileSync(0, 'utf8'));
const text = (bytes) => new TextDecoder('utf-8', { fatal: true }).decode(bytes);
const bytes = (text) => new TextEncoder().encode(text);
const imported = (key, alg) => jose.importJWK(key, alg);
const kid = async (item) => item.kid ?? (await jose.calculateJwkThumbprint(item.key));

const verified = [];
for (const item of task.verify) {
  const options = { algorithms: [item.alg] };
  const { payload, protectedHeader } = await jose.compactVerify(item.jws, await imported(item.key, item.alg), options);
  verified.push({ claims: JSON.parse(text(payload)), header: protectedHeader, kid: await kid(item) });
}

const opened = [];
for (const item of task.open) {
  const options = { keyManagementAlgorithms: ['ECDH-ES'], contentEncryptionAlgorithms: ['A256GCM'] };
  const { plaintext, protectedHeader } = await jose.compactDecrypt(item.jwe, await imported(item.key, 'ECDH-ES'), options);
  const { d, ...publicKey } = item.key;
  const { kid, ...header } = protectedHeader;
  if (kid !== (await jose.calculateJwkThumbprint(publicKey))) throw new Error('kid is not the thumbprint');
  if (header.alg !== 'ECDH-ES' || header.enc !== 'A256GCM') throw new Error('another algorithm');
  opened.push(text(plaintext));
}

const signed = [];
for (const item of task.sign) {
  const header = { alg: item.alg, typ: item.typ, kid: await kid(item) };
  const jws = new jose.CompactSign(bytes(JSON.stringify(item.claims))).setProtectedHeader(header);
  signed.push(await jws.sign(await imported(item.key, item.alg)));
}

const sealed = [];
for (const item of task.seal) {
  const header = { alg: 'ECDH-ES', enc: 'A256GCM', kid: await kid(item) };
  const jwe = new jose.CompactEncrypt(bytes(item.plaintext)).setProtectedHeader(header);
  sealed.push(await jwe.encrypt(await imported(item.key, 'ECDH-ES')));
}

process.stdout.write(JSON.stringify({ verified, opened, signed, sealed }));
