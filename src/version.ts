/** Owns the version that `keyferry version` and the Version RPC report. Kept equal to package.json by a test. */
export const VERSION = '0.1.0'
