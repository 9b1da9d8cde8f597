import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import type { Backend } from '../../../src/providers/adapter.ts'
import { backendOf, mount, planOf, putIdentity, temporaryDirectory } from './fixtures.ts'

const directory = temporaryDirectory()
let shared: Backend
beforeAll(() => {
  mkdirSync(join(directory.path, 'roots/shop'), { recursive: true })
  const path = putIdentity(directory.path, 'age-a')
  shared = backendOf({
    roots: [{ path: join(directory.path, 'roots') }],
    identities: [{ path, shared: true }],
  })
})
afterAll(() => directory.remove())

interface Manifest {
  readonly spec: { readonly provider: string; readonly parameters: Record<string, string> }
}

function example(name: string): Record<string, string> {
  const path = join(import.meta.dirname, '../../../examples', name)
  const manifest = parse(readFileSync(path, 'utf8')) as Manifest
  expect(manifest.spec.provider).toBe('sops')
  return manifest.spec.parameters
}

describe('the examples', () => {
  test('sops A1 examples/sops-inline.yaml mounts for its service account and for no other', async () => {
    const { outputs } = planOf(example('sops-inline.yaml'), 'shop/web')
    expect(await mount(shared, outputs, 'shop/web')).toEqual({
      'db-password': 'not-a-real-password',
      'db.json': '{"user":"app","password":"not-a-real-password"}',
    })
    expect((await mount(shared, outputs, 'shop/other'))['db-password']).toMatchObject({
      code: 'NOT_BOUND',
    })
  })
  test('sops A2 examples/sops-file.yaml mounts the same document from a root', async () => {
    const document = example('sops-inline.yaml')['sopsDocument'] ?? ''
    writeFileSync(join(directory.path, 'roots/shop/demo.yaml'), document)
    const { outputs } = planOf(example('sops-file.yaml'), 'shop/web')
    expect(await mount(shared, outputs, 'shop/web')).toEqual({
      db: '{"user":"app","password":"not-a-real-password"}',
    })
  })
})
