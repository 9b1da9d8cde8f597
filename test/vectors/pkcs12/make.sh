#!/usr/bin/env bash
# Makes the files of this folder anew, all together: bash make.sh, in an empty directory. OpenSSL 3 with its legacy provider.
set -e
# Root, intermediate and leaves; everything is thrown away but what is in this folder.
cat > ca.ext <<X
basicConstraints=critical,CA:true
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
X
cat > leaf.ext <<X
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
subjectAltName=DNS:www.example.test
X
openssl ecparam -name prime256v1 -genkey -noout -out root.key
openssl req -x509 -new -key root.key -subj "/CN=Test Root" -days 36500 -out root.crt
openssl ecparam -name prime256v1 -genkey -noout -out inter.key
openssl req -new -key inter.key -subj "/CN=Test Intermediate" -out inter.csr
openssl x509 -req -in inter.csr -CA root.crt -CAkey root.key -set_serial 2 -days 36500 -extfile ca.ext -out inter.crt
openssl genrsa -out rsa.key 2048
openssl req -new -key rsa.key -subj "/CN=RSA leaf" -out rsa.csr
openssl x509 -req -in rsa.csr -CA inter.crt -CAkey inter.key -set_serial 3 -days 36500 -extfile leaf.ext -out rsa.crt
for c in prime256v1 secp384r1 secp521r1 secp256k1; do
openssl ecparam -name $c -genkey -noout -out $c.key
openssl req -new -key $c.key -subj "/CN=EC leaf $c" -out $c.csr
openssl x509 -req -in $c.csr -CA inter.crt -CAkey inter.key -set_serial 4 -days 36500 -extfile leaf.ext -out $c.crt
done
cat root.crt inter.crt > up.pem   # wrong order on purpose
L="-provider legacy -provider default"
P="openssl pkcs12 -export -certfile up.pem -passout pass:"
$P $L -legacy -inkey rsa.key -in rsa.crt -out rc2-40.pfx
$P $L -certpbe PBE-SHA1-RC2-128 -keypbe PBE-SHA1-RC2-128 -macalg sha1 -inkey rsa.key -in rsa.crt -out rc2-128.pfx
$P -certpbe PBE-SHA1-3DES -keypbe PBE-SHA1-3DES -macalg sha1 -inkey rsa.key -in rsa.crt -out 3des.pfx
$P -certpbe PBE-SHA1-2DES -keypbe PBE-SHA1-2DES -macalg sha1 -inkey rsa.key -in rsa.crt -out 2des.pfx
$P -certpbe AES-256-CBC -keypbe AES-256-CBC -macalg sha256 -inkey rsa.key -in rsa.crt -out aes256-sha256.pfx
$P -certpbe AES-128-CBC -keypbe AES-192-CBC -macalg sha512 -iter 10000 -inkey rsa.key -in rsa.crt -out aes128-sha512.pfx
$P -certpbe AES-256-CBC -keypbe AES-256-CBC -macalg sha384 -inkey prime256v1.key -in prime256v1.crt -out ec-p256.pfx
$P -inkey secp384r1.key -in secp384r1.crt -out ec-p384.pfx
$P -inkey secp521r1.key -in secp521r1.crt -out ec-p521.pfx
$P -inkey secp256k1.key -in secp256k1.crt -out ec-secp256k1.pfx
$P -nomac -inkey rsa.key -in rsa.crt -out no-mac.pfx
$P -certpbe NONE -keypbe NONE -macalg sha256 -inkey rsa.key -in rsa.crt -out in-clear.pfx
openssl pkcs12 -export -certfile up.pem -passout pass:päss-wörd -inkey rsa.key -in rsa.crt -out password.pfx

for k in rsa prime256v1 secp384r1 secp521r1 secp256k1; do
  openssl pkcs8 -topk8 -nocrypt -in $k.key -out $k.key.pem
  openssl x509 -in $k.crt -out $k.crt.pem
done
cp root.crt root.crt.pem
cp inter.crt intermediate.crt.pem
# The leaf comes first and the rest in the wrong order (up.pem). Nothing else is kept.
rm -f ./*.key ./*.crt ./*.csr ./*.ext up.pem
