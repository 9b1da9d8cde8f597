import { mountSuite15 } from './mount-suite-1.5.ts'
import { serverSubject } from './server-subject.ts'

mountSuite15('our server and a scripted pipeline', serverSubject, [])
