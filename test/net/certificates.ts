/** Owns throw-away certificates for tests: an authority, and leaves that it signs. */
import { generateKeyPairSync } from 'node:crypto'
import forge from 'node-forge'

export interface Authority {
  /** PEM of the authority's certificate. */
  readonly ca: string
  /** A certificate and key for host names and addresses. */
  issue(names: readonly string[]): { readonly cert: string; readonly key: string }
}

function keyPair(): {
  readonly publicKey: forge.pki.rsa.PublicKey
  readonly privateKey: forge.pki.rsa.PrivateKey
  readonly key: string
} {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const key = privateKey.export({ type: 'pkcs1', format: 'pem' }).toString()
  const own = forge.pki.privateKeyFromPem(key)
  return { privateKey: own, publicKey: forge.pki.setRsaPublicKey(own.n, own.e), key }
}

function blank(serial: string, subject: string, issuer: string): forge.pki.Certificate {
  const certificate = forge.pki.createCertificate()
  certificate.serialNumber = serial
  certificate.validity.notBefore = new Date(Date.now() - 3_600_000)
  certificate.validity.notAfter = new Date(Date.now() + 86_400_000)
  certificate.setSubject([{ name: 'commonName', value: subject }])
  certificate.setIssuer([{ name: 'commonName', value: issuer }])
  return certificate
}

/** A fresh authority; takes some 100 ms. */
export function createAuthority(): Authority {
  const root = keyPair()
  const certificate = blank('01', 'test authority', 'test authority')
  certificate.publicKey = root.publicKey
  certificate.setExtensions([{ name: 'basicConstraints', cA: true, critical: true }])
  certificate.sign(root.privateKey, forge.md.sha256.create())
  let serial = 1
  return {
    ca: forge.pki.certificateToPem(certificate),
    issue(names) {
      const own = keyPair()
      serial += 1
      const leaf = blank(serial.toString(16).padStart(2, '0'), 'test leaf', 'test authority')
      leaf.publicKey = own.publicKey
      const altNames = names.map((name) =>
        /^[0-9.]+$/.test(name) ? { type: 7, ip: name } : { type: 2, value: name },
      )
      leaf.setExtensions([{ name: 'subjectAltName', altNames }])
      leaf.sign(root.privateKey, forge.md.sha256.create())
      return { cert: forge.pki.certificateToPem(leaf), key: own.key }
    },
  }
}
