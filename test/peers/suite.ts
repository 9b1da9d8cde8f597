/** Owns what happens to a suite whose real peer is not there: skipped loudly, or failed where CI is set. */
import { execFileSync } from 'node:child_process'
import { describe, test } from 'vitest'
import { missing } from './start.ts'

export interface SuiteNeeds {
  /** Programs of `.peers/bin`. */
  readonly programs?: readonly string[]
  /** Root and the right to make a private mount namespace, for the real driver. */
  readonly mountNamespace?: boolean
  /** Any other reason not to run, or undefined. */
  readonly unless?: string | undefined
}

/** Why this machine cannot run a suite; undefined when it can. */
export function whyNot(needs: SuiteNeeds): string | undefined {
  return (
    missing(needs.programs ?? []) ?? (needs.mountNamespace ? noMountNamespace() : undefined) ?? needs.unless
  )
}

function noMountNamespace(): string | undefined {
  if (process.platform !== 'linux') return 'the driver runs on Linux only'
  if (process.getuid?.() !== 0) return 'root is needed, the driver mounts tmpfs'
  try {
    // The whole of what the driver does: a namespace of its own and a tmpfs in it.
    const script = 'mount -t tmpfs keyferry-probe /mnt && umount /mnt'
    execFileSync('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], { stdio: 'pipe' })
    return undefined
  } catch {
    return 'this machine lets nobody mount a tmpfs in a namespace of its own (unshare --mount)'
  }
}

/**
 * `describe` for a suite with a real peer. Where the peer is missing the title says what was skipped
 * and why; with CI set in the environment the suite fails instead.
 */
export function describeWithPeers(title: string, needs: SuiteNeeds, body: () => void): void {
  const reason = whyNot(needs)
  if (reason === undefined) {
    describe(title, body)
  } else if (process.env['CI']) {
    describe(title, () => {
      test(`cannot run: ${reason}`, () => {
        throw new Error(`${title} must run where CI is set, but ${reason}`)
      })
    })
  } else {
    describe.skip(`${title} [SKIPPED: ${reason}]`, body)
  }
}
