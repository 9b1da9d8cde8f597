import { describe, expect, it } from 'vitest'
import { auditTo, together, type AuditRecord } from '../../src/telemetry/audit.ts'

const RECORD: AuditRecord = {
  namespace: 'shop',
  serviceAccount: 'web',
  pod: 'web-0',
  podUid: 'uid',
  secretProviderClass: 'spc',
  provider: 'sops',
  backend: 'sops',
  store: undefined,
  identity: 'pod',
  object: 'a',
  files: ['a'],
  version: '1',
  marks: [],
  outcome: 'delivered',
  kind: undefined,
  code: undefined,
  from: 'cache',
  latencyMs: 1,
}

describe('audit lines', () => {
  it('of one turn are one write, in order, before any timer or callback', async () => {
    const writes: string[] = []
    const audit = auditTo(together((lines) => writes.push(lines)))
    const later = new Promise<number>((resolve) => setImmediate(() => resolve(writes.length)))
    audit({ ...RECORD, object: 'a' })
    audit({ ...RECORD, object: 'b' })
    expect(writes).toEqual([])
    expect(await later).toBe(1)
    const lines = (writes[0] ?? '').trimEnd().split('\n')
    expect(lines.map((line) => (JSON.parse(line) as AuditRecord).object)).toEqual(['a', 'b'])
  })

  it('of the next turn are a write of their own', async () => {
    const writes: string[] = []
    const audit = auditTo(together((lines) => writes.push(lines)))
    audit(RECORD)
    await Promise.resolve()
    audit(RECORD)
    await Promise.resolve()
    expect(writes).toHaveLength(2)
  })
})
