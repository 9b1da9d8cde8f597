/** Owns the scripted AWS and a node that mounts from it, for the conformance cases. */
import type { CacheSettings } from '../../../src/mount/resolver.ts'
import { FakeAws } from './fake-aws.ts'
import { FakeCluster } from './fake-identity.ts'
import { createMounts } from './mounts.ts'
import type { Mounts } from './mounts.ts'
import { trustWeb } from './web-role.ts'

export { tokenText } from './mounts.ts'
export { ROLE } from './web-role.ts'

export interface HarnessOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly settings?: (fake: FakeAws) => Readonly<Record<string, unknown>>
  readonly cache?: Partial<CacheSettings>
}

export interface Harness extends Mounts {
  readonly fake: FakeAws
  readonly cluster: FakeCluster
}

/** A fake whose role {@link ROLE} trusts service account `web` of namespace `shop`. */
export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const fake = await new FakeAws().start()
  const cluster = new FakeCluster()
  trustWeb(fake, cluster)
  const mounts = createMounts({
    cluster,
    env: options.env ?? {},
    cache: options.cache ?? {},
    settings: {
      endpoint: fake.endpoint,
      stsEndpoint: fake.endpoint,
      podIdentityEndpoints: { ipv4: fake.podIdentityUrl, ipv6: fake.podIdentityUrl6 },
      ...options.settings?.(fake),
    },
  })
  const stopMounts = mounts.stop.bind(mounts)
  return Object.assign(mounts, {
    fake,
    cluster,
    stop: async () => {
      await stopMounts()
      await fake.stop()
    },
  })
}
