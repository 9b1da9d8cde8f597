/** Owns the data of aws.md's conformance cases, and the writing of their SPCs. */
import type { Harness } from './harness.ts'

export const V1 = '11111111-1111-4111-8111-111111111111'
export const V2 = '22222222-2222-4222-8222-222222222222'
export const VP = '33333333-3333-4333-8333-333333333333'
export const VB = '44444444-4444-4444-8444-444444444444'

export const APP_DB =
  '{"username":"u1","port":5432,"tls":true,"nul":null,"empty":"","list":["l0","l1"],"api-key":"k-1"}'

/** Puts the fixtures of the conformance table into us-east-1. */
export function fill({ fake }: Pick<Harness, 'fake'>): void {
  const region = fake.region('us-east-1')
  region.putSecret('app/db', '{"username":"u0"}', V1)
  region.putSecret('app/db', APP_DB, V2)
  region.putSecret('plain', 's3cret\n', VP)
  region.putSecret('bin', Buffer.from([0x00, 0xff, 0x0a]), VB)
  region.putParameter('/cfg/url', 'a')
  region.putParameter('/cfg/url', 'b', { labels: ['prod'] })
  region.putParameter('/cfg/url', 'https://x')
  region.putParameter('/sec', 'enc', { type: 'SecureString', version: 7 })
  region.putParameter('list', 'a,b,c', { type: 'StringList' })
  for (let i = 1; i <= 23; i += 1) region.putParameter(`p${i}`, `val${i}`)
}

export interface ObjectEntry {
  readonly objectName: string
  readonly [field: string]: unknown
}

/** Type of the fixture: parameters are those the table lists. */
function typeOf(name: string): string {
  return /^(?:\/|list$|p\d+$|gone\d)/.test(name) ? 'ssmparameter' : 'secretsmanager'
}

/** `objects` for entries; the type is added where an entry has none. JSON is YAML. */
export function objects(...entries: readonly (string | ObjectEntry)[]): string {
  return JSON.stringify(
    entries.map((entry) => {
      const object = typeof entry === 'string' ? { objectName: entry } : entry
      return 'objectType' in object ? object : { ...object, objectType: typeOf(object.objectName) }
    }),
  )
}

/** Parameters in region us-east-1. */
export function spc(entries: readonly (string | ObjectEntry)[], more: Record<string, string> = {}) {
  return { region: 'us-east-1', objects: objects(...entries), ...more }
}
