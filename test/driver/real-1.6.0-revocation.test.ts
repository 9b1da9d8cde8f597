import { revocationSuite } from './revocation-suite.ts'

revocationSuite('1.6.0')
