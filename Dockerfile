# Ledgerline in an image of its own: one static binary and the certificate authorities, run by nobody in particular.
#   docker build -t ledgerline .
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/ledgerline ./cmd/ledgerline \
 && mkdir -p /out/data && chmod 700 /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ledgerline /ledgerline
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ENV LEDGERLINE_DATA=/data LEDGERLINE_LOG_FORMAT=json
VOLUME /data
EXPOSE 8666 8667 8668 6969/udp
ENTRYPOINT ["/ledgerline"]
CMD ["serve"]
