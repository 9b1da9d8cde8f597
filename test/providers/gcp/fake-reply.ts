/** Owns replies as Google's APIs make them. */
export interface Reply {
  readonly status: number
  /** A text is sent as it is. */
  readonly body: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export const ok = (body: object): Reply => ({ status: 200, body })

/** An error in the form of Google's JSON APIs. */
export function apiError(code: number, status: string, message: string, reason?: string): Reply {
  const details =
    reason === undefined
      ? []
      : [{ '@type': 'type.googleapis.com/google.rpc.ErrorInfo', reason, domain: 'googleapis.com' }]
  return { status: code, body: { error: { code, message, status, details } } }
}

/** An error in the form of OAuth. */
export function oauthError(error: string, error_description: string): Reply {
  return { status: 400, body: { error, error_description } }
}
