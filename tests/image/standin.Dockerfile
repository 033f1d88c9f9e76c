# `docker import` would call the image one of the engine's own processor, whatever is in it.
FROM scratch
ARG TARGETARCH
ADD base-${TARGETARCH}.tar /
CMD ["python"]
