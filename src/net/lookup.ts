/** Owns name resolution behind the address guard: a socket is connected to the very address that was checked. */
import { lookup as systemLookup } from 'node:dns'
import type { LookupAddress, LookupOptions } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { addressRefusal, hostRefusal } from './guard.ts'
import type { GuardRules } from './guard.ts'

/** Resolves a name to all its addresses. Handed in by tests to play a hostile resolver. */
export type Resolve = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void

/** The guard said no. Nothing has been sent. */
export class RefusedAddressError extends Error {
  override readonly name = 'RefusedAddressError'
  readonly code = 'KEYFERRY_REFUSED_ADDRESS'
}

const refused = (host: string, reason: string) =>
  new RefusedAddressError(`${host} is ${reason}, which a parameter must not name`)

/** @throws RefusedAddressError when a parameter must not name `host`, whatever it may resolve to. */
export function checkHost(host: string, rules: GuardRules): void {
  const reason = hostRefusal(host, rules)
  if (reason !== undefined) throw refused(host, reason)
}

/**
 * A `lookup` for sockets. With rules, a name fails as a whole as soon as one of its addresses is refused:
 * picking the good ones would let a resolver alternate.
 */
export function guardedLookup(
  rules: GuardRules | undefined,
  resolve: Resolve = systemLookup,
): LookupFunction {
  return (hostname, options, callback) => {
    const fail = (error: NodeJS.ErrnoException) => callback(error, options.all === true ? [] : '', 0)
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return fail(error)
      for (const { address } of rules === undefined ? [] : addresses) {
        const reason = rules === undefined ? undefined : addressRefusal(address, rules)
        if (reason !== undefined) return fail(refused(hostname, reason))
      }
      const [first] = addresses
      if (first === undefined) return fail(Object.assign(new Error('no address'), { code: 'ENOTFOUND' }))
      if (options.all === true) return callback(null, addresses)
      return callback(null, first.address, first.family)
    })
  }
}
