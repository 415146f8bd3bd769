import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from './tools.ts'

/**
 * Makes an authority (`authority.pem`) and a certificate of it for localhost and 127.0.0.1 (`keystore.pem`, with its
 * key) in the folder. Made anew for every run: no private key is ever kept.
 *
 * @returns the authority's certificate, PEM
 */
export async function makeCertificates(folder: string): Promise<string> {
  const newKey = ['-newkey', 'rsa:2048', '-nodes']
  await openssl(folder, 'req', '-x509', ...newKey, '-keyout', 'authority.key', '-out', 'authority.pem', [
    ...['-subj', '/CN=Turbine test authority', '-days', '2'],
    ...['-addext', 'basicConstraints=critical,CA:TRUE'],
  ])
  await openssl(folder, 'req', ...newKey, '-keyout', 'server.key', '-out', 'server.csr', [
    ...['-subj', '/CN=localhost'],
  ])
  await writeFile(join(folder, 'names.cnf'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n')
  await openssl(folder, 'x509', '-req', '-in', 'server.csr', '-out', 'server.pem', [
    ...['-CA', 'authority.pem', '-CAkey', 'authority.key', '-CAcreateserial'],
    ...['-days', '2', '-extfile', 'names.cnf'],
  ])
  const parts = ['server.key', 'server.pem', 'authority.pem']
  const texts = await Promise.all(parts.map((part) => readFile(join(folder, part), 'utf8')))
  await writeFile(join(folder, 'keystore.pem'), texts.join(''))
  return texts[2]!
}

async function openssl(folder: string, ...args: (string | string[])[]): Promise<void> {
  await run('openssl', args.flat(), { cwd: folder })
}
