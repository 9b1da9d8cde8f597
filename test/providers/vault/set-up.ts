/** Owns what the Vault suites share: a fake server with a harness, both closed after the test. */
import { afterEach } from 'vitest'
import { startFakeVault, type FakeOptions, type FakeVault } from './fake-vault.ts'
import { createHarness, type Harness, type HarnessOptions } from './harness.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

export async function fakeVault(options?: FakeOptions): Promise<FakeVault> {
  const vault = await startFakeVault(options)
  closing.push(() => vault.close())
  return vault
}

export function harness(options: HarnessOptions): Harness {
  const h = createHarness(options)
  closing.push(() => h.close())
  return h
}

export interface SetUp {
  readonly vault: FakeVault
  readonly h: Harness
  /** Parameters of an SPC that names the fake server. */
  readonly spc: (objects: string, more?: Record<string, string>) => Record<string, string>
}

/** A fake server and a harness whose operator lists it. */
export async function setUp(options: HarnessOptions = {}): Promise<SetUp> {
  const vault = await fakeVault()
  const h = harness({ ...options, settings: { addresses: [vault.address], ...options.settings } })
  const spc = (objects: string, more = {}) => ({
    roleName: 'web',
    vaultAddress: vault.address,
    objects,
    ...more,
  })
  return { vault, h, spc }
}

/** One item of `objects`. */
export function object(name: string, path: string, key?: string, more: readonly string[] = []): string {
  const lines = [
    `- objectName: ${name}`,
    `  secretPath: ${path}`,
    ...(key === undefined ? [] : [`  secretKey: ${key}`]),
    ...more.map((line) => `  ${line}`),
  ]
  return `${lines.join('\n')}\n`
}
