/** Owns the context that a test makes a backend from: quiet, alone, without network or key services. */
import type { BackendContext } from '../../src/providers/adapter.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { silentMeter } from '../../src/telemetry/metrics.ts'

/** A client that refuses to be used. */
const noNetwork: BackendContext['http'] = {
  send: () => Promise.reject(new Error('this test has no network')),
  agents: () => {
    throw new Error('this test has no network')
  },
}

/** A context with `changes` laid over the quiet default. */
export function backendContext(changes: Partial<BackendContext> = {}): BackendContext {
  return {
    settings: {},
    log: silentLogger,
    http: noNetwork,
    env: {},
    meter: silentMeter,
    keyService: () => Promise.resolve(undefined),
    ...changes,
  }
}
