/** Owns gRPC status codes as the driver and kubelet name them, and which of them kubelet takes as final. */

/** Names by number, spelled as in `rpc error: code = …` texts. */
export const CODE_NAMES = [
  'OK',
  'Canceled',
  'Unknown',
  'InvalidArgument',
  'DeadlineExceeded',
  'NotFound',
  'AlreadyExists',
  'PermissionDenied',
  'ResourceExhausted',
  'FailedPrecondition',
  'Aborted',
  'OutOfRange',
  'Unimplemented',
  'Internal',
  'Unavailable',
  'DataLoss',
  'Unauthenticated',
] as const

export type CodeName = (typeof CODE_NAMES)[number]

/** The name of a code number; anything outside 0..16 is `Unknown`. */
export function codeName(code: number): CodeName {
  return CODE_NAMES[code] ?? 'Unknown'
}

/**
 * Codes after which kubelet assumes that the call may still be running. It keeps the target directory,
 * which is how the empty-volume trap opens (driver.md section 4).
 */
const NON_FINAL: ReadonlySet<CodeName> = new Set([
  'Canceled',
  'DeadlineExceeded',
  'ResourceExhausted',
  'Aborted',
  'Unavailable',
] as const)

/** Whether kubelet regards the operation as over (driver.md section 4). */
export function isFinal(code: CodeName): boolean {
  return !NON_FINAL.has(code)
}

/** A status as Go prints one: `rpc error: code = NotFound desc = no such secret`. */
export function statusText(code: CodeName, message: string): string {
  return `rpc error: code = ${code} desc = ${message}`
}
